//! What the endpoints answer.

use crate::store::Charges;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;

/// An answer in JSON, or why there is none.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

#[derive(Debug, Serialize)]
pub(super) struct Eligibility {
    pub(super) claim: u64,
    pub(super) covered: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Letter {
    pub(super) claim: u64,
    pub(super) bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Price {
    pub(super) claim: u64,
    pub(super) member_pays_cents: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Submission {
    pub(super) claim: u64,
    pub(super) attempts: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct FraudScore {
    pub(super) claim: u64,
    pub(super) score: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ChargesSoFar {
    pub(super) member: u32,
    pub(super) claims: i64,
    pub(super) cents: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct Recorded {
    pub(super) claim: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct DirectoryAddresses {
    pub(super) addresses: Vec<SocketAddr>,
    /// Why there is none: a directory that is not found is an answer, not a failure.
    pub(super) problem: Option<String>,
}

impl ChargesSoFar {
    pub(super) fn new(member: u32, charges: Charges) -> ChargesSoFar {
        ChargesSoFar {
            member,
            claims: charges.claims,
            cents: charges.cents,
        }
    }
}

impl From<io::Result<Vec<SocketAddr>>> for DirectoryAddresses {
    fn from(resolved: io::Result<Vec<SocketAddr>>) -> DirectoryAddresses {
        match resolved {
            Ok(addresses) => DirectoryAddresses {
                addresses,
                problem: None,
            },
            Err(e) => DirectoryAddresses {
                addresses: Vec::new(),
                problem: Some(e.to_string()),
            },
        }
    }
}

/// Something that the service needs did not work: 503, with the reason.
#[derive(Debug)]
pub(super) struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(e: E) -> Failure {
        Failure(e.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{:#}\n", self.0)).into_response()
    }
}
