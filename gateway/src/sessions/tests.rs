use super::*;

fn channel() -> ChannelName {
    ChannelName {
        namespace: "bistro".to_owned(),
        name: "orders".to_owned(),
    }
}

fn identity(user: &str) -> Arc<Identity> {
    Arc::new(Identity {
        user: Some(user.to_owned()),
        method: "staff".to_owned(),
        expires: None,
        json: Json::null(),
    })
}

fn joined(value: &str, at: u64) -> Joined {
    Joined {
        room: RoomKey {
            name: "r".into(),
            values: [Box::from(value)].into(),
        },
        shown: value.into(),
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

fn parted() -> Parted {
    let at = Some(Position {
        epoch: "e".into(),
        seq: 7,
    });
    Parted { at, last_sent: 5 }
}

/// Ann's session, which client 1 has.
fn taken(sessions: &Sessions) -> (Arc<Session>, Generation) {
    let start = Start {
        at: begin(),
        reason: None,
    };
    let (session, first) = sessions.begin(&channel(), &identity("ann"), start, Vec::new(), Millis(0));
    assert!(session.take(first, 1, &identity("ann"), vec![joined("a", 0)], &begin()));
    (session, first)
}

fn claim(sessions: &Sessions, session: &Session) -> Result<Claim, NotRecovered> {
    sessions.claim(&channel(), &session.pid, &identity("ann"), Millis(0))
}

fn rooms(session: &Session) -> Vec<String> {
    let (.., rooms) = session.present().expect("a client has it");
    rooms.iter().map(|joined| joined.shown.to_string()).collect()
}

#[test]
fn a_session_is_claimed_by_its_pid_and_its_identity_only() {
    let sessions = Sessions::default();
    let (session, _) = taken(&sessions);
    let claim = |channel: &ChannelName, pid: &Pid, user: &str| {
        let claim = sessions.claim(channel, pid, &identity(user), Millis(0));
        claim.map(|claim| claim.rooms.len())
    };
    assert_eq!(claim(&channel(), &session.pid, "bob"), Err(NotRecovered::Identity));
    assert_eq!(
        claim(&channel(), &Pid::claimed("forged"), "ann"),
        Err(NotRecovered::SessionUnknown)
    );
    let other = ChannelName {
        name: "kitchen".to_owned(),
        ..channel()
    };
    assert_eq!(claim(&other, &session.pid, "ann"), Err(NotRecovered::SessionUnknown));
    // None of that has done anything to it.
    assert!(session.present().is_some());
    assert_eq!(claim(&channel(), &session.pid, "ann"), Ok(1));
}

#[test]
fn a_former_generation_changes_nothing_once_another_has_claimed() {
    let sessions = Sessions::default();
    let (session, first) = taken(&sessions);
    let second = claim(&sessions, &session).unwrap();
    assert_eq!((second.former, second.rooms.len()), (Some(1), 1));
    assert!(!session.joined(first, joined("b", 3)));
    assert!(!session.left(first, &joined("a", 0).room));
    session.parted(first, parted(), Millis(0));
    sessions.end(&channel(), &session, first);

    assert!(session.take(second.generation, 2, &identity("ann"), second.rooms, &begin()));
    assert_eq!(rooms(&session), ["a"]);
    assert!(session.joined(second.generation, joined("b", 3)));
    session.parted(second.generation, parted(), Millis(0));
    let third = claim(&sessions, &session).unwrap();
    assert_eq!(
        (third.former, third.rooms.len(), third.parted),
        (None, 2, Some(parted()))
    );
}

#[test]
fn of_two_that_come_back_at_once_the_later_wins() {
    let sessions = Sessions::default();
    let (session, _) = taken(&sessions);
    let [earlier, later] = [(); 2].map(|()| claim(&sessions, &session).unwrap());
    assert!(earlier.generation < later.generation);
    assert!(session.take(later.generation, 3, &identity("ann"), later.rooms, &begin()));
    assert!(session.joined(later.generation, joined("b", 3)));
    assert!(!session.take(earlier.generation, 2, &identity("ann"), earlier.rooms, &begin()));
    sessions.end(&channel(), &session, earlier.generation);
    assert_eq!(rooms(&session), ["a", "b"]);
    assert_eq!(claim(&sessions, &session).unwrap().former, Some(3));
}

#[test]
fn a_session_that_has_ended_is_claimed_by_nobody() {
    let sessions = Sessions::default();
    let (session, first) = taken(&sessions);
    sessions.end(&channel(), &session, first);
    assert_eq!(claim(&sessions, &session).unwrap_err(), NotRecovered::SessionUnknown);
    assert_eq!(
        session.claim(&identity("ann"), Millis(0)).unwrap_err(),
        NotRecovered::SessionUnknown
    );
    assert_eq!(sessions.count(&channel()), 0);
}

#[test]
fn sessions_that_wait_too_long_end_and_those_in_use_do_not() {
    let sessions = Sessions::default();
    let (gone, first) = taken(&sessions);
    gone.parted(first, parted(), Millis(1_000));
    taken(&sessions);
    let (claimed, _) = taken(&sessions);
    claim(&sessions, &claimed).unwrap();
    sessions.drop_old(&channel(), 1_400, Millis(1_400));
    assert_eq!(sessions.count(&channel()), 3);
    sessions.drop_old(&channel(), 1_400, Millis(1_401));
    assert_eq!(sessions.count(&channel()), 2, "claimed, and not taken");
    sessions.drop_old(&channel(), 1_400, Millis(2_401));
    assert_eq!(sessions.count(&channel()), 1);
    assert_eq!(sessions.live(&channel()).len(), 1);
}

#[test]
fn pids_differ_and_are_not_shown() {
    let sessions = Sessions::default();
    let [(a, _), (b, _)] = [(); 2].map(|()| taken(&sessions));
    assert_ne!(a.pid, b.pid);
    assert_eq!(a.pid.reveal().len(), 32);
    assert!(!format!("{a:?}").contains(a.pid.reveal()));
}

#[test]
fn who_connects_again_and_again_pushes_out_own_sessions_and_nobody_elses() {
    let sessions = Sessions::default();
    let peer = |last: u8| Peer::of([192, 0, 2, last].into());
    let begin = |channel: &ChannelName, user: Option<&str>, from: u8, since: i64| {
        let identity = Identity {
            user: user.map(str::to_owned),
            ..(*identity("")).clone()
        };
        let start = Start {
            at: begin(),
            reason: None,
        };
        let (session, _) = sessions.begin(channel, &Arc::new(identity), start, Vec::new(), Millis(since));
        session.came_from(peer(from));
        session
    };
    let (kitchen, cafe) = (
        ChannelName {
            name: "kitchen".to_owned(),
            ..channel()
        },
        ChannelName {
            namespace: "cafe".to_owned(),
            ..channel()
        },
    );
    let others = [
        (channel(), begin(&channel(), Some("ann"), 9, 0)),
        (channel(), begin(&channel(), None, 7, 0)),
        (kitchen.clone(), begin(&kitchen, Some("bob"), 9, 0)),
        (cafe.clone(), begin(&cafe, Some("mallory"), 9, 0)),
    ];
    let (live, generation) = taken(&sessions);
    let by_user: Vec<_> = (1..=20).map(|n| begin(&channel(), Some("mallory"), 9, n)).collect();
    let by_address: Vec<_> = (1..=20).map(|n| begin(&channel(), None, 8, n)).collect();
    sessions.bound("bistro", 13);
    let there = |channel: &ChannelName, session: &Session| sessions.with(channel, |all| all.contains_key(&session.pid));
    assert!(others.iter().all(|(channel, session)| there(channel, session)));
    assert!(there(&channel(), &live), "one whose client is there does not wait");
    for many in [by_user, by_address] {
        let left: Vec<_> = many.iter().map(|session| there(&channel(), session)).collect();
        assert_eq!(left, [vec![false; 15], vec![true; 5]].concat(), "the latest stay");
    }
    live.parted(generation, parted(), Millis(0));
    sessions.bound("bistro", 14);
    assert_eq!(sessions.count(&channel()) + sessions.count(&kitchen), 14);
}
