//! Which path leads to which handler.

use axum::Router;
use axum::routing::{get, post};
use claims_api::app::App;
use claims_api::handlers::{v1, v2};
use std::sync::Arc;

/// Every route of the service; of a repaired one those under /v1 do as those under /v2.
pub(crate) fn router(app: Arc<App>, repaired: bool) -> Router {
    let first = match repaired {
        true => right(),
        false => mistaken(),
    };
    Router::new()
        .route("/health", get(async || "ok"))
        .nest("/v1", first)
        .nest("/v2", right())
        .with_state(app)
}

fn mistaken() -> Router<Arc<App>> {
    Router::new()
        .route("/claims/{claim}/eligibility", get(v1::eligibility))
        .route("/claims/{claim}/letter", post(v1::letter))
        .route("/claims/{claim}/price", post(v1::price))
        .route("/claims/{claim}/submission", post(v1::submission))
        .route("/claims/{claim}/fraud-score", get(v1::fraud_score))
        .route("/members/{member}/charges", get(v1::charges))
        .route("/members/{member}/claims", post(v1::record_claim))
        .route("/directory", get(v1::directory))
}

fn right() -> Router<Arc<App>> {
    Router::new()
        .route("/claims/{claim}/eligibility", get(v2::eligibility))
        .route("/claims/{claim}/letter", post(v2::letter))
        .route("/claims/{claim}/price", post(v2::price))
        .route("/claims/{claim}/submission", post(v2::submission))
        .route("/claims/{claim}/fraud-score", get(v2::fraud_score))
        .route("/members/{member}/charges", get(v2::charges))
        .route("/members/{member}/claims", post(v2::record_claim))
        .route("/directory", get(v2::directory))
}
