//! What `unwind_synthesis` reads off the code: jumps by table, calls that do not return at the end of a
//! function, and functions that only tables of methods and such jumps lead to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Ready the second time.
struct Turn(bool);

impl Future for Turn {
    type Output = u64;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(7);
        }
        Poll::Pending
    }
}

trait Step {
    fn step(&self, state: &mut BTreeMap<u64, String>, n: u64) -> u64;
}

struct Insert;
struct Remove(u64);
struct Join;

impl Step for Insert {
    fn step(&self, state: &mut BTreeMap<u64, String>, n: u64) -> u64 {
        state.insert(n, format!("{n:x}"));
        state.len() as u64
    }
}

impl Step for Remove {
    fn step(&self, state: &mut BTreeMap<u64, String>, n: u64) -> u64 {
        let gone = state.remove(&(n / self.0));
        gone.expect("was there").len() as u64
    }
}

impl Step for Join {
    fn step(&self, state: &mut BTreeMap<u64, String>, n: u64) -> u64 {
        let mut all = String::new();
        for (key, value) in state.range(n..) {
            write!(all, "{key}={value} ").unwrap();
        }
        all.len() as u64
    }
}

#[inline(never)]
fn never(n: u64) -> ! {
    panic!("no such step: {n}")
}

#[inline(never)]
fn mix(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// The table's address is read once, before the loop.
#[inline(never)]
fn run<const SKIP: u64>(program: &[u8]) -> u64 {
    let (mut n, mut sum) = (0, 0_u64);
    for byte in program {
        match byte & 7 {
            0 => n += SKIP,
            1 => sum = sum.wrapping_add(mix(n)),
            2 => sum ^= mix(sum ^ n),
            3 => sum = mix(sum.rotate_left(3)),
            4 => n = sum % 16,
            5 => n = n.wrapping_mul(mix(sum) | 1),
            6 => sum = sum.swap_bytes() ^ mix(n),
            _ => never(n),
        }
    }
    sum
}

async fn leaf<const N: u64>(n: u64) -> u64 {
    let mut sum = n;
    while sum < 20 + N {
        sum += Turn(false).await;
    }
    sum
}

async fn root<const N: u64>(n: u64) -> u64 {
    let one = leaf::<N>(n).await;
    let two = leaf::<N>(one / 3).await;
    let three = Turn(one > two).await + leaf::<N>(two).await;
    let four = Turn(one > three).await;
    let five = Turn(one > four).await.wrapping_mul(three);
    five + leaf::<N>(five / 9).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn main() {
    let steps: [&dyn Step; 3] = [&Insert, &Remove(1), &Join];
    let program: Vec<u8> = std::env::args().nth(1).unwrap_or_default().into_bytes();
    let boxed: Vec<Pin<Box<dyn Future<Output = u64>>>> = vec![
        Box::pin(root::<1>(1)),
        Box::pin(root::<2>(1)),
        Box::pin(root::<3>(1)),
        Box::pin(leaf::<4>(2)),
    ];
    for future in boxed {
        println!("{}", block_on(future));
    }
    let mut state = BTreeMap::new();
    for (n, step) in steps.iter().enumerate() {
        println!("{}", step.step(&mut state, n as u64 / 2));
    }
    println!("{} {}", run::<1>(&program), run::<2>(&program));
}
