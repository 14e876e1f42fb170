//! `hallpass doctor`
