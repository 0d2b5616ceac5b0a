//! A bound on memory that an engine without a sanitizer cannot give: an input of a few bytes must not make the program
//! ask for more than [`BYTES_MAX`]. Asked for, not touched: a length field believed too early shows at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in use at a time, in one process. Corpus and engine included.
pub const BYTES_MAX: usize = 1 << 30;

/// The system's allocator, counting.
pub struct Bounded;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    if IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES_MAX {
        // The text of the panic needs memory too.
        IN_USE.store(0, Ordering::Relaxed);
        panic!("more than {BYTES_MAX} bytes of memory are asked for");
    }
}

fn give_back(bytes: usize) {
    // Relaxed, and saturating after a panic put it to 0.
    let _ = IN_USE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
}

// SAFETY: everything is passed on to the system's allocator; the count changes nothing about it.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        give_back(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}
