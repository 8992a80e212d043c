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

#[test]
fn a_drill_has_the_faults_that_it_names_and_no_others() {
    let length = Duration::from_secs(20);
    for name in NAMES {
        let schedule = drill(1, length, &[name.to_owned()]);
        let faults: Vec<_> = schedule.values().flatten().collect();
        // What both say is counted as one kind.
        let counted = if name == "redis-deaf" { "redis-cut" } else { name };
        assert!(
            faults.iter().all(|(at, fault)| *at < length && fault.name() == counted),
            "{faults:?}"
        );
        assert!(faults.len() >= 2, "{faults:?}");
    }
    let mixed = drill(1, length, &["cut".to_owned(), "cut-all".to_owned()]);
    let times: Vec<_> = mixed[&Lane::Network].iter().map(|(at, _)| *at).collect();
    assert!(times.is_sorted(), "{times:?}");
}
