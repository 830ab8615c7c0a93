//! Threads that look like workers by their names.

/// The names that tokio gives where the program gives none: that of today, and `tokio-runtime-worker`
/// as far as the kernel keeps it.
const DEFAULT: [&str; 2] = ["tokio-rt-worker", "tokio-runtime-w"];

/// Whether a thread's name is the one that tokio gives to workers, and to the blocking pool, where
/// the program gives none. A sign of tokio where its code shows none.
#[must_use]
pub fn is_of_a_worker(name: &str) -> bool {
    DEFAULT.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tokio_gives() {
        assert!(is_of_a_worker("tokio-rt-worker"));
        assert!(is_of_a_worker("tokio-runtime-w"));
        assert!(!is_of_a_worker("tokio"));
        assert!(!is_of_a_worker("worker"));
    }
}
