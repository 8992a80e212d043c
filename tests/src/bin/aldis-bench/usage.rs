//! What processes use, from /proc: CPU time and memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// Clock ticks in a second, in which /proc counts CPU time: the same for programs on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Samples that are left out when memory is judged, at one a second: pools and buffers fill up first. 15.
pub const WARM_UP_SAMPLES: usize = 15;

/// Fewest samples after the warm-up that make a line worth drawing. 15.
const LEAST_SAMPLES: usize = 15;

/// CPU time of a process so far, all its threads, user and system.
///
/// # Errors
/// Where the process is gone.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
    let fields = text
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace().skip(11).take(2));
    let ticks = fields.and_then(|fields| fields.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>());
    let ticks = ticks.with_context(|| format!("{path} has no CPU times"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A line of /proc/PID/status in KiB, such as `VmRSS` or `VmHWM`, its greatest so far.
///
/// # Errors
/// Where the process is gone.
pub fn memory_kib(pid: u32, line: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let value = text.lines().find_map(|text| {
        text.strip_prefix(line)?
            .strip_prefix(':')?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    });
    value.with_context(|| format!("{path} has no {line}: the process has ended"))
}

/// Slope in KiB/s of memory sampled once a second, without the warm-up; `None` where the run was too short to say.
pub fn growth(samples_kib: &[u64]) -> Option<f64> {
    let samples = samples_kib
        .get(WARM_UP_SAMPLES..)
        .filter(|samples| samples.len() >= LEAST_SAMPLES)?;
    let count = samples.len() as f64;
    let mean_x = (count - 1.0) / 2.0;
    let mean_y = samples.iter().sum::<u64>() as f64 / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in samples.iter().enumerate() {
        let dx = x as f64 - mean_x;
        above += dx * (*y as f64 - mean_y);
        below += dx * dx;
    }
    Some(above / below)
}

/// Pins this program, and what it starts later, to a CPU. Says whether that worked: it needs `taskset` and two CPUs.
pub fn pin_self(cpu: usize) -> bool {
    let several = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    let pid = std::process::id().to_string();
    let done = || {
        std::process::Command::new("taskset")
            .args(["-cp", &cpu.to_string(), &pid])
            .output()
    };
    several && Path::new("/proc/self/stat").exists() && done().is_ok_and(|output| output.status.success())
}
