//! Waits for other threads: locks, condition variables, channels, joins.

use crate::helper::Helper;
use crate::lengths::lengths;
use crate::scenarios::ROUNDS;
use crate::truth::{Site, site};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

site!(SLEEP, block_by_sleep, ["blocked"]);
site!(MUTEX, block_by_mutex, ["blocked"]);
site!(RWLOCK_READ, block_by_rwlock_read, ["blocked"]);
site!(RWLOCK_WRITE, block_by_rwlock_write, ["blocked"]);
site!(CONDVAR, block_by_condvar, ["blocked"]);
site!(MPSC_RECV, block_by_mpsc_recv, ["blocked"]);
site!(SYNC_SEND, block_by_sync_send, ["blocked"]);
site!(PARKING_LOT, block_by_parking_lot, ["blocked"]);
site!(ONCE, block_by_once, ["blocked"]);
site!(BARRIER, block_by_barrier, ["blocked"]);
site!(PARK_TIMEOUT, block_by_park_timeout, ["blocked"]);
site!(THREAD_JOIN, block_by_thread_join, ["blocked"]);

pub static SITES: &[&Site] = &[
    &SLEEP, &MUTEX, &RWLOCK_READ, &RWLOCK_WRITE, &CONDVAR, &MPSC_RECV, &SYNC_SEND, &PARKING_LOT,
    &ONCE, &BARRIER, &PARK_TIMEOUT, &THREAD_JOIN,
];

const POISON: &str = "nobody panics with the lock";

#[inline(never)]
pub fn block_by_sleep(length: Duration) {
    let watch = SLEEP.start();
    thread::sleep(length);
    watch.stop();
}

#[inline(never)]
fn block_by_mutex(lock: &Mutex<u64>) {
    let watch = MUTEX.start();
    let mut held = lock.lock().expect(POISON);
    watch.stop();
    *held += 1;
}

#[inline(never)]
fn block_by_rwlock_read(lock: &RwLock<u64>) -> u64 {
    let watch = RWLOCK_READ.start();
    let held = lock.read().expect(POISON);
    watch.stop();
    *held
}

#[inline(never)]
fn block_by_rwlock_write(lock: &RwLock<u64>) {
    let watch = RWLOCK_WRITE.start();
    let mut held = lock.write().expect(POISON);
    watch.stop();
    *held += 1;
}

#[inline(never)]
fn block_by_condvar(lock: &Mutex<bool>, condvar: &Condvar) {
    let held = lock.lock().expect(POISON);
    let watch = CONDVAR.start();
    let held = condvar.wait_while(held, |ready| !*ready).expect(POISON);
    watch.stop();
    drop(held);
}

#[inline(never)]
fn block_by_mpsc_recv(receiver: &Receiver<u64>) -> Option<u64> {
    let watch = MPSC_RECV.start();
    let received = receiver.recv();
    watch.stop();
    received.ok()
}

#[inline(never)]
fn block_by_sync_send(sender: &SyncSender<u64>) {
    let watch = SYNC_SEND.start();
    let sent = sender.send(1);
    watch.stop();
    sent.expect("the helper receives");
}

#[inline(never)]
fn block_by_parking_lot(lock: &parking_lot::Mutex<u64>) {
    let watch = PARKING_LOT.start();
    let mut held = lock.lock();
    watch.stop();
    *held += 1;
}

#[inline(never)]
fn block_by_once(cell: &OnceLock<u64>) -> u64 {
    let watch = ONCE.start();
    let value = *cell.get_or_init(|| 2);
    watch.stop();
    value
}

#[inline(never)]
fn block_by_barrier(barrier: &Barrier) {
    let watch = BARRIER.start();
    barrier.wait();
    watch.stop();
}

#[inline(never)]
fn block_by_park_timeout(length: Duration) {
    let watch = PARK_TIMEOUT.start();
    thread::park_timeout(length);
    watch.stop();
}

#[inline(never)]
fn block_by_thread_join(thread: JoinHandle<u64>) -> u64 {
    let watch = THREAD_JOIN.start();
    let result = thread.join();
    watch.stop();
    result.expect("the thread does not panic")
}

pub async fn task_sleep() {
    for length in lengths(1, ROUNDS) {
        block_by_sleep(length);
        tokio::task::yield_now().await;
    }
}

pub async fn task_mutex(helper: Helper) {
    let lock = Arc::new(Mutex::new(0));
    for length in lengths(2, ROUNDS) {
        let theirs = lock.clone();
        let entry = helper
            .hold(move |gate| {
                let mut held = theirs.lock().expect(POISON);
                gate.open(length);
                *held += 1;
            })
            .await;
        entry.enter();
        block_by_mutex(&lock);
    }
}

pub async fn task_rwlock(helper: Helper) {
    let lock = Arc::new(RwLock::new(0));
    for length in lengths(3, ROUNDS) {
        let theirs = lock.clone();
        let entry = helper
            .hold(move |gate| {
                let mut held = theirs.write().expect(POISON);
                gate.open(length);
                *held += 1;
            })
            .await;
        entry.enter();
        std::hint::black_box(block_by_rwlock_read(&lock));
    }
    for length in lengths(4, ROUNDS) {
        let theirs = lock.clone();
        let entry = helper
            .hold(move |gate| {
                let held = theirs.read().expect(POISON);
                gate.open(length);
                drop(held);
            })
            .await;
        entry.enter();
        block_by_rwlock_write(&lock);
    }
}

pub async fn task_condvar(helper: Helper) {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    for length in lengths(5, ROUNDS) {
        *shared.0.lock().expect(POISON) = false;
        let theirs = shared.clone();
        let entry = helper
            .later(length, move || {
                *theirs.0.lock().expect(POISON) = true;
                theirs.1.notify_one();
            })
            .await;
        entry.enter();
        block_by_condvar(&shared.0, &shared.1);
    }
}

pub async fn task_mpsc_recv(helper: Helper) {
    let (sender, receiver) = std::sync::mpsc::channel();
    for length in lengths(6, ROUNDS) {
        let sender = sender.clone();
        let entry = helper.later(length, move || drop(sender.send(1))).await;
        entry.enter();
        std::hint::black_box(block_by_mpsc_recv(&receiver));
    }
}

pub async fn task_sync_send(helper: Helper) {
    for length in lengths(7, ROUNDS) {
        let (sender, receiver) = std::sync::mpsc::sync_channel(0);
        let entry = helper.later(length, move || drop(receiver.recv())).await;
        entry.enter();
        block_by_sync_send(&sender);
    }
}

pub async fn task_parking_lot(helper: Helper) {
    let lock = Arc::new(parking_lot::Mutex::new(0));
    for length in lengths(8, ROUNDS) {
        let theirs = lock.clone();
        let entry = helper
            .hold(move |gate| {
                let mut held = theirs.lock();
                gate.open(length);
                *held += 1;
            })
            .await;
        entry.enter();
        block_by_parking_lot(&lock);
    }
}

pub async fn task_once(helper: Helper) {
    for length in lengths(9, ROUNDS) {
        let cell = Arc::new(OnceLock::new());
        let theirs = cell.clone();
        let entry = helper
            .hold(move |gate| {
                theirs.get_or_init(|| {
                    gate.open(length);
                    1
                });
            })
            .await;
        entry.enter();
        std::hint::black_box(block_by_once(&cell));
    }
}

pub async fn task_barrier(helper: Helper) {
    let barrier = Arc::new(Barrier::new(2));
    for length in lengths(10, ROUNDS) {
        let theirs = barrier.clone();
        let entry = helper.later(length, move || drop(theirs.wait())).await;
        entry.enter();
        block_by_barrier(&barrier);
    }
}

pub async fn task_park_timeout() {
    for length in lengths(11, ROUNDS) {
        block_by_park_timeout(length);
        tokio::task::yield_now().await;
    }
}

pub async fn task_thread_join(helper: Helper) {
    for length in lengths(12, ROUNDS) {
        let thread = helper
            .ask(move || {
                thread::spawn(move || {
                    thread::sleep(length);
                    1
                })
            })
            .await;
        std::hint::black_box(block_by_thread_join(thread));
    }
}
