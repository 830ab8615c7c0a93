//! The same endpoints, done right: the worker is free while the request waits.

use super::answers::{
    Answer, ChargesSoFar, DirectoryAddresses, Eligibility, FraudScore, Letter, Price, Recorded,
    Submission,
};
use crate::app::App;
use axum::Json;
use axum::extract::{Path, State};
use std::sync::Arc;
use tokio::task;

/// tokio's socket.
pub async fn eligibility(
    State(app): State<Arc<App>>,
    Path(claim): Path<u64>,
) -> Answer<Eligibility> {
    let answer = app.gateway.ask(&format!("ELIGIBILITY {claim}")).await?;
    Ok(Json(Eligibility {
        claim,
        covered: answer == "COVERED",
    }))
}

/// `tokio::fs`.
pub async fn letter(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Letter> {
    let bytes = app.letters.write(claim).await?;
    Ok(Json(Letter { claim, bytes }))
}

/// `tokio::sync::Mutex`.
pub async fn price(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Price> {
    let member_pays_cents = app.ledger.price(claim).await?;
    Ok(Json(Price {
        claim,
        member_pays_cents,
    }))
}

/// `tokio::time::sleep` between attempts.
pub async fn submission(State(app): State<Arc<App>>, Path(claim): Path<u64>) -> Answer<Submission> {
    let attempts = app.clearinghouse.submit(claim).await?;
    Ok(Json(Submission { claim, attempts }))
}

/// `.await`.
pub async fn fraud_score(
    State(app): State<Arc<App>>,
    Path(claim): Path<u64>,
) -> Answer<FraudScore> {
    let score = app.fraud.score(claim).await?;
    Ok(Json(FraudScore { claim, score }))
}

/// `spawn_blocking`: a thread of the blocking pool waits for the database.
pub async fn charges(State(app): State<Arc<App>>, Path(member): Path<u32>) -> Answer<ChargesSoFar> {
    let charges = task::spawn_blocking(move || app.store.charges_of(member)).await??;
    Ok(Json(ChargesSoFar::new(member, charges)))
}

/// `block_in_place`: this thread waits for the disk, but first gives its worker away.
pub async fn record_claim(
    State(app): State<Arc<App>>,
    Path(member): Path<u32>,
) -> Answer<Recorded> {
    let claim = task::block_in_place(|| app.store.record_claim(member, 12_950))?;
    Ok(Json(Recorded { claim }))
}

/// tokio's `lookup_host`, which resolves on the blocking pool.
pub async fn directory(State(app): State<Arc<App>>) -> Json<DirectoryAddresses> {
    Json(app.directory.resolve().await.into())
}
