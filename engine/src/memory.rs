//! Freed memory -> the system's.

/// Gives freed memory of all threads back to the system, where the allocator is glibc's. Takes
/// milliseconds where there is much: for the time after many targets have gone.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes a number and no memory of ours; glibc locks what it works on.
    unsafe {
        libc::malloc_trim(0);
    }
}
