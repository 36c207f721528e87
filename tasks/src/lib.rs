//! Training tasks written on Sterna's public API.
