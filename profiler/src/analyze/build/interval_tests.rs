//! Intervals of one recording, together and each by itself.
