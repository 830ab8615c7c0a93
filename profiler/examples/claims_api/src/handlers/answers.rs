//! What the endpoints answer.

use crate::store::Charges;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;

/// An answer in JSON, or why there is none.
pub type Answer<T> = Result<Json<T>, Failure>;

/// Whether the payer covers a claim.
#[derive(Debug, Serialize)]
pub struct Eligibility {
    /// The claim's number.
    pub claim: u64,
    /// True if so.
    pub covered: bool,
}

/// A letter that was written.
#[derive(Debug, Serialize)]
pub struct Letter {
    /// The claim's number.
    pub claim: u64,
    /// Its length.
    pub bytes: usize,
}

/// What the member pays for a claim.
#[derive(Debug, Serialize)]
pub struct Price {
    /// The claim's number.
    pub claim: u64,
    /// In cents.
    pub member_pays_cents: u64,
}

/// A claim that the clearinghouse took.
#[derive(Debug, Serialize)]
pub struct Submission {
    /// The claim's number.
    pub claim: u64,
    /// How often it was asked.
    pub attempts: u32,
}

/// How suspicious a claim is.
#[derive(Debug, Serialize)]
pub struct FraudScore {
    /// The claim's number.
    pub claim: u64,
    /// 0 to 99.
    pub score: u64,
}

/// What a member was charged.
#[derive(Debug, Serialize)]
pub struct ChargesSoFar {
    /// The member's number.
    pub member: u32,
    /// How many.
    pub claims: i64,
    /// Together.
    pub cents: i64,
}

/// A new claim.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Its number.
    pub claim: i64,
}

/// The directory's addresses.
#[derive(Debug, Serialize)]
pub struct DirectoryAddresses {
    /// Empty if the name was not found.
    pub addresses: Vec<SocketAddr>,
    /// Why there is none: a directory that is not found is an answer, not a failure.
    pub problem: Option<String>,
}

impl ChargesSoFar {
    /// What the store found.
    pub fn new(member: u32, charges: Charges) -> ChargesSoFar {
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
pub struct Failure(anyhow::Error);

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
