//! Guards axum and tower applications with Hallpass tokens.
