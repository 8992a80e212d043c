use super::*;

fn channel() -> ChannelName {
    ChannelName {
        namespace: "bistro".to_owned(),
        name: "orders".to_owned(),
    }
}

fn identity(user: &str) -> Identity {
    Identity {
        user: Some(user.to_owned()),
        method: "staff".to_owned(),
        json: Json::null(),
    }
}

fn joined(value: &str, at: u64) -> Joined {
    Joined {
        room: RoomKey {
            name: "r".into(),
            values: [Box::from(value)].into(),
        },
        by: None,
        at,
    }
}

fn begin() -> Position {
    Position {
        epoch: "e".into(),
        seq: 4,
    }
}

const PARTED: Parted = Parted { at: 7, last_sent: 5 };

#[test]
fn a_session_is_found_by_its_pid_and_its_identity_only() {
    let sessions = Sessions::default();
    let session = sessions.begin(&channel(), &identity("ann"), Millis(0));
    assert!(sessions.find(&channel(), &session.pid, &identity("ann")).is_ok());
    assert_eq!(
        sessions.find(&channel(), &session.pid, &identity("bob")).unwrap_err(),
        NoSession::Identity
    );
    assert_eq!(
        sessions
            .find(&channel(), &Pid::claimed("forged"), &identity("ann"))
            .unwrap_err(),
        NoSession::Unknown
    );
    let other = ChannelName {
        name: "kitchen".to_owned(),
        ..channel()
    };
    assert_eq!(
        sessions.find(&other, &session.pid, &identity("ann")).unwrap_err(),
        NoSession::Unknown
    );
}

#[test]
fn a_former_client_changes_nothing_once_another_has_taken_over() {
    let sessions = Sessions::default();
    let session = sessions.begin(&channel(), &identity("ann"), Millis(0));
    session.take(1, vec![joined("a", 0)], &begin());
    session.take(2, vec![joined("a", 0)], &begin());
    session.joined(1, joined("b", 3));
    session.left(1, &joined("a", 0).room);
    session.parted(1, PARTED, Millis(0));
    assert_eq!(session.client(), Some(2));
    assert_eq!(session.rooms().0.len(), 1);
    session.joined(2, joined("b", 3));
    session.parted(2, PARTED, Millis(0));
    assert_eq!(
        (session.client(), session.rooms().0.len(), session.rooms().1),
        (None, 2, Some(PARTED))
    );
}

#[test]
fn sessions_that_wait_too_long_end_and_those_in_use_do_not() {
    let sessions = Sessions::default();
    let gone = sessions.begin(&channel(), &identity("ann"), Millis(0));
    gone.take(1, Vec::new(), &begin());
    gone.parted(1, PARTED, Millis(1_000));
    sessions
        .begin(&channel(), &identity("bob"), Millis(0))
        .take(2, Vec::new(), &begin());
    sessions.drop_old(&channel(), 500, Millis(1_500));
    assert_eq!(sessions.count(&channel()), 2);
    sessions.drop_old(&channel(), 500, Millis(1_501));
    assert_eq!(sessions.count(&channel()), 1);
}

#[test]
fn pids_differ_and_are_not_shown() {
    let sessions = Sessions::default();
    let [a, b] = [identity("ann"), identity("ann")].map(|identity| sessions.begin(&channel(), &identity, Millis(0)));
    assert_ne!(a.pid, b.pid);
    assert_eq!(a.pid.reveal().len(), 32);
    assert!(!format!("{a:?}").contains(a.pid.reveal()));
}
