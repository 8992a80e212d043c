use tokio::sync::watch;

use super::*;

#[tokio::test]
async fn changes_that_come_together_are_one_pass_and_without_any_there_is_one_now_and_then() {
    let (sender, mut changes) = watch::channel(0);
    assert!(
        until_next(&mut changes, Duration::from_millis(1)).await,
        "without a change"
    );
    // A change each millisecond or so. However long that takes here: between two passes are 100 ms.
    let started = Instant::now();
    let producer = tokio::spawn(async move {
        for _ in 0..300 {
            sleep(Duration::from_millis(1)).await;
            sender.send_modify(|changes| *changes += 1);
        }
        sender
    });
    let mut passes = 0;
    while *changes.borrow() < 300 {
        assert!(until_next(&mut changes, Duration::MAX).await);
        changes.mark_unchanged();
        passes += 1;
    }
    let most = started.elapsed().as_millis() / DEBOUNCE.as_millis();
    assert!(
        passes > 0 && passes <= most,
        "{passes} passes of 300 changes, in {:?}",
        started.elapsed()
    );
    drop(producer.await.unwrap());
    assert!(
        !until_next(&mut changes, Duration::MAX).await,
        "nobody will change anything any more"
    );
}

#[test]
fn everything_is_written_anew_at_the_start_and_at_intervals_that_replicas_do_not_share() {
    let start = Instant::now();
    let mut resync = Resync::default();
    assert!(resync.is_due(start, 0.0), "at the start");
    assert!(!resync.is_due(start + RESYNC - Duration::from_secs(1), 0.0));
    assert!(resync.is_due(start + RESYNC, 1.0));
    assert!(!resync.is_due(start + RESYNC, 1.0), "once");
    assert!(
        resync.is_due(start + RESYNC + RESYNC / 2, 0.5),
        "jittered by half at most"
    );
}
