//! A long list as text: its parts are made side by side and written one after another.

use std::io;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Items whose text is made as one piece: some megabytes.
const PIECE: usize = 4096;
/// Pieces that each thread may be ahead of what is written.
const AHEAD: usize = 2;
/// Threads that make text, at most: beyond them, writing is what takes the time.
const THREADS: usize = 8;

/// Writes what `text` adds for each of `items`, in their order.
///
/// # Errors
///
/// Those of `text`, and those of writing to `out`.
pub(super) fn write_each<T: Sync>(
    items: &[T],
    out: &mut dyn io::Write,
    text: impl Fn(&T, &mut Vec<u8>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    write_by(cpus.min(THREADS), items, out, text)
}

fn write_by<T: Sync>(
    threads: usize,
    items: &[T],
    out: &mut dyn io::Write,
    text: impl Fn(&T, &mut Vec<u8>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let piece = |items: &[T]| {
        let mut piece = Vec::new();
        let made = items.iter().try_for_each(|item| text(item, &mut piece));
        made.map(|()| piece)
    };
    let pieces = items.len().div_ceil(PIECE);
    let threads = threads.min(pieces);
    if threads < 2 {
        let mut pieces = items.chunks(PIECE);
        return pieces.try_for_each(|items| out.write_all(&piece(items)?));
    }
    thread::scope(|scope| {
        let piece = &piece;
        let made: Vec<Receiver<io::Result<Vec<u8>>>> = (0..threads)
            .map(|first| {
                let (sender, made) = sync_channel(AHEAD);
                scope.spawn(move || {
                    let own = items.chunks(PIECE).skip(first).step_by(threads);
                    // Nobody takes them any more after an error of writing.
                    let _ = own.map(piece).try_for_each(|piece| sender.send(piece));
                });
                made
            })
            .collect();
        // Each thread's next piece in turn. One that sends none has panicked, which the scope passes on.
        let made = made.iter().cycle().map_while(|made| made.recv().ok());
        made.take(pieces)
            .try_for_each(|piece| out.write_all(&piece?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn written(threads: usize, items: &[usize]) -> String {
        let mut out = Vec::new();
        write_by(threads, items, &mut out, |item, out| {
            writeln!(out, "{item}")
        })
        .expect("memory");
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn the_order_is_that_of_the_items_whoever_makes_their_text() {
        for len in [0, 1, PIECE, PIECE + 1, 10 * PIECE + 7] {
            let items: Vec<usize> = (0..len).collect();
            let alone = written(1, &items);
            assert_eq!(alone.lines().count(), len);
            for threads in [2, 3, 8, 64] {
                assert_eq!(written(threads, &items), alone, "{threads} threads, {len}");
            }
        }
    }

    #[test]
    fn an_error_of_the_text_or_of_writing_ends_it() {
        let items: Vec<usize> = (0..20 * PIECE).collect();
        let fails = |item: &usize, _: &mut Vec<u8>| match item {
            70_000 => Err(io::Error::other("no text")),
            _ => Ok(()),
        };
        let error = write_by(3, &items, &mut io::sink(), fails).expect_err("fails");
        assert_eq!(error.to_string(), "no text");
        let mut small = [0_u8; 100];
        let text = |item: &usize, out: &mut Vec<u8>| writeln!(out, "{item}");
        let error = write_by(3, &items, &mut &mut small[..], text).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
