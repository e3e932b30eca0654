//! The Dyadic server.
