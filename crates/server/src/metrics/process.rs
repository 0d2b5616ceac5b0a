//! What the operating system counts for this process.

use std::fs;

use super::metric;

/// Clock ticks per second and bytes per page, as Linux fixes them for programs on our platforms.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4_096;

/// Appends `process_*` and `os_fd_*`; what cannot be read is left out.
pub(super) fn render(out: &mut String) {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat")
        && let Some((_, rest)) = stat.rsplit_once(") ")
    {
        // Field 3 of proc(5) is the first after the name.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let cpu = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
        metric(out, "counter", "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu);
        metric(out, "gauge", "process_virtual_memory_bytes", "Virtual memory size in bytes.", field(23));
        metric(out, "gauge", "process_resident_memory_bytes", "Resident memory size in bytes.", field(24) * PAGE_BYTES);
        if let Some(booted) = boot_time() {
            let started = booted + field(22) as f64 / TICKS_PER_SECOND;
            let help = "Start time of the process since unix epoch in seconds.";
            metric(out, "gauge", "process_start_time_seconds", help, started);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let used = open.count();
        metric(out, "gauge", "process_open_fds", "Number of open file descriptors.", used);
        metric(out, "gauge", "os_fd_used", "The number of used file descriptors.", used);
    }
    if let Some(limit) = fd_limit() {
        metric(out, "gauge", "process_max_fds", "Maximum number of open file descriptors.", limit);
        metric(out, "gauge", "os_fd_limit", "The file descriptor limit.", limit);
    }
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of open files.
pub(crate) fn fd_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
