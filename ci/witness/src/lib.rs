//! Independent bindings of libibverbs as witnesses; all of it is in `tests/`.
