//! The longest of very many things that have a length.

use crate::recording::{Poll, Wait};
use crate::report::LeftOut;
use crate::units::Nanos;
use std::sync::Arc;

/// What has a length.
pub(super) trait Length {
    fn length(&self) -> Nanos;
}

impl Length for Wait {
    /// Its blocked part.
    fn length(&self) -> Nanos {
        self.wakeup.min(self.end) - self.start
    }
}

impl Length for Poll {
    fn length(&self) -> Nanos {
        Poll::length(self)
    }
}

/// Everything, as long as there is room. Then the shorter half goes, and whatever is not longer than
/// that from then on: so the long ones of a whole recording are there, and not all of its beginning.
#[derive(Clone, Debug)]
pub(super) struct Longest<T> {
    items: Arc<Vec<T>>,
    most: usize,
    left_out: LeftOut,
}

impl<T: Length + Clone> Longest<T> {
    /// Keeps at most `most`.
    pub(super) fn new(most: usize) -> Longest<T> {
        Longest {
            items: Arc::default(),
            most,
            left_out: LeftOut::default(),
        }
    }

    /// Adds some, in their order.
    pub(super) fn add(&mut self, more: &[T]) {
        let items = Arc::make_mut(&mut self.items);
        for item in more {
            if items.len() >= self.most {
                halve(items, &mut self.left_out);
            }
            if self.left_out.count > 0 && item.length() <= self.left_out.longest {
                self.left_out.count += 1;
                continue;
            }
            items.push(item.clone());
        }
    }

    /// What is kept, in its order.
    pub(super) fn items(&self) -> Arc<Vec<T>> {
        Arc::clone(&self.items)
    }

    /// What is not.
    pub(super) const fn left_out(&self) -> LeftOut {
        self.left_out
    }
}

/// Removes the shorter half. Of those that are just as long as the median the first ones stay.
fn halve<T: Length>(items: &mut Vec<T>, left_out: &mut LeftOut) {
    let half = items.len() / 2;
    let mut lengths: Vec<Nanos> = items.iter().map(Length::length).collect();
    if lengths.is_empty() {
        return;
    }
    let (_, median, longer) = lengths.select_nth_unstable(half);
    let median = *median;
    let longer = longer.iter().filter(|length| **length > median).count();
    let before = items.len();
    let mut longest = Nanos::ZERO;
    // There are as many places for the median's length as the longer ones leave.
    let mut places = (before - half).saturating_sub(longer);
    items.retain(|item| {
        let length = item.length();
        if length == median && places > 0 {
            places -= 1;
            return true;
        }
        if length <= median {
            longest = longest.max(length);
        }
        length > median
    });
    left_out.count += (before - items.len()) as u64;
    left_out.longest = left_out.longest.max(longest);
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Length for u64 {
        fn length(&self) -> Nanos {
            Nanos(*self)
        }
    }

    fn kept(lengths: &[u64], most: usize) -> (Vec<u64>, LeftOut) {
        let mut longest = Longest::new(most);
        longest.add(lengths);
        (longest.items().to_vec(), longest.left_out())
    }

    #[test]
    fn what_fits_is_kept() {
        assert_eq!(
            kept(&[3, 1, 2], 3),
            (vec![3, 1, 2], LeftOut::default()),
            "in its order"
        );
    }

    #[test]
    fn the_long_ones_of_the_whole_are_kept() {
        let lengths: Vec<u64> = (0..10_000).map(|i| i * 7_919 % 10_007).collect();
        let (items, left_out) = kept(&lengths, 100);
        assert!(items.len() <= 100 && items.len() >= 25, "{}", items.len());
        assert_eq!(items.len() as u64 + left_out.count, 10_000);
        let mut sorted = lengths.clone();
        sorted.sort_unstable();
        let longest = &sorted[sorted.len() - items.len()..];
        let mut own = items.clone();
        own.sort_unstable();
        assert_eq!(own, longest);
        assert!(own[0] > left_out.longest.0);
        let position = |length: &u64| lengths.iter().position(|other| other == length);
        assert!(items.is_sorted_by_key(position), "in their order");
    }

    #[test]
    fn equal_lengths_are_not_all_dropped() {
        let (items, left_out) = kept(&[5; 1_000], 10);
        assert_eq!(items, [5; 5]);
        assert_eq!(
            left_out,
            LeftOut {
                count: 995,
                longest: Nanos(5)
            }
        );
    }
}
