//! A seed says it all.

use super::*;

#[test]
fn a_seed_repeats_its_faults_and_another_one_has_others() {
    let minute = Duration::from_secs(60);
    assert_eq!(draw(1, minute), draw(1, minute));
    assert_ne!(draw(1, minute), draw(2, minute));
}

#[test]
fn some_seed_has_each_fault_and_half_of_them_leave_redis_its_memory() {
    let schedules: Vec<_> = (0..100).map(|seed| draw(seed, Duration::from_secs(60))).collect();
    let names =
        |schedule: &Schedule| -> Vec<_> { schedule.values().flatten().map(|(_, fault)| fault.name()).collect() };
    for name in [
        "kill",
        "pause",
        "drain",
        "redis-cut",
        "redis-restart",
        "redis-rollback",
        "redis-empty",
        "kafka-restart",
        "cut",
        "cut-all",
        "configure",
    ] {
        assert!(
            schedules.iter().any(|schedule| names(schedule).contains(&name)),
            "{name}"
        );
    }
    let forgets = schedules.iter().filter(|schedule| {
        names(schedule)
            .iter()
            .any(|name| ["redis-rollback", "redis-empty"].contains(name))
    });
    let forgets = forgets.count();
    assert!((30..=70).contains(&forgets), "{forgets}");
}
