//! The endpoints as they are written in a hurry: each waits on the worker that polls it.

use super::answers::{
    Answer, ChargesSoFar, DirectoryAddresses, Eligibility, FraudScore, Letter, Price, Recorded,
    Submission,
};
use crate::app::App;
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;

/// A blocking socket: 200 ms.
pub async fn eligibility(
    State(app): State<Arc<App>>,
    Path(claim): Path<u64>,
) -> Answer<Eligibility> {
    let answer = app.gateway.ask_blocking(&format!("ELIGIBILITY {claim}"))?;
    Ok(Json(Eligibility {
        claim,
        covered: answer == "COVERED",
    }))
}

/// `std::fs` and `fsync`.
pub async fn letter(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Letter> {
    let bytes = app.letters.write_with_std_fs(claim)?;
    Ok(Json(Letter { claim, bytes }))
}

/// A `std::sync::Mutex` held across slow work.
pub async fn price(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Price> {
    let member_pays_cents = app.ledger.price_under_std_mutex(claim)?;
    Ok(Json(Price {
        claim,
        member_pays_cents,
    }))
}

/// `thread::sleep` between attempts.
pub async fn submission(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Submission> {
    let attempts = app.clearinghouse.submit_with_thread_sleep(claim).await?;
    Ok(Json(Submission { claim, attempts }))
}

/// Another executor's `block_on`.
pub async fn fraud_score(
    State(app): State<Arc<App>>,
    Path(claim): Path<u64>,
) -> Answer<FraudScore> {
    let score = app.fraud.score_with_block_on(claim)?;
    Ok(Json(FraudScore { claim, score }))
}

/// A query that waits for the database's lock.
pub async fn charges(State(app): State<Arc<App>>, Path(member): Path<u32>) -> Answer<ChargesSoFar> {
    let charges = app.store.charges_of(member)?;
    Ok(Json(ChargesSoFar::new(member, charges)))
}

/// A commit that waits for the disk.
pub async fn record_claim(
    State(app): State<Arc<App>>,
    Path(member): Path<u32>,
) -> Answer<Recorded> {
    let claim = app.store.record_claim(member, 12_950)?;
    Ok(Json(Recorded { claim }))
}

/// `getaddrinfo`.
pub async fn directory(State(app): State<Arc<App>>) -> Json<DirectoryAddresses> {
    Json(app.directory.resolve_with_getaddrinfo().into())
}
