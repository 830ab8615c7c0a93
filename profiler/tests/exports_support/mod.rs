//! What the tests of the formats of other programs share.

pub(crate) mod profile;
