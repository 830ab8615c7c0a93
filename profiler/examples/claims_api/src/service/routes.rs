//! Which path leads to which handler.

use axum::Router;
use axum::routing::{get, post};
use claims_api::app::App;
use claims_api::handlers::{v1, v2};
use std::sync::Arc;

/// Every route of the service.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(async || "ok"))
        .route("/v1/claims/{claim}/eligibility", get(v1::eligibility))
        .route("/v1/claims/{claim}/letter", post(v1::letter))
        .route("/v1/claims/{claim}/price", post(v1::price))
        .route("/v1/claims/{claim}/submission", post(v1::submission))
        .route("/v1/claims/{claim}/fraud-score", get(v1::fraud_score))
        .route("/v1/members/{member}/charges", get(v1::charges))
        .route("/v1/members/{member}/claims", post(v1::record_claim))
        .route("/v1/directory", get(v1::directory))
        .route("/v2/claims/{claim}/eligibility", get(v2::eligibility))
        .route("/v2/claims/{claim}/letter", post(v2::letter))
        .route("/v2/claims/{claim}/price", post(v2::price))
        .route("/v2/claims/{claim}/submission", post(v2::submission))
        .route("/v2/claims/{claim}/fraud-score", get(v2::fraud_score))
        .route("/v2/members/{member}/charges", get(v2::charges))
        .route("/v2/members/{member}/claims", post(v2::record_claim))
        .route("/v2/directory", get(v2::directory))
        .with_state(app)
}
