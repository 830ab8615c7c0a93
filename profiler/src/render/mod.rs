//! Reports out of the model: each renderer is a pure function.
