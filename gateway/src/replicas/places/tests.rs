//! Accounting of places: what is said, what is heard, and who is let in.

use super::*;

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn asked(wanted: &[(&str, u32)]) -> Asked {
    Asked {
        places: wanted.iter().map(|(name, limit)| (Arc::from(*name), *limit)).collect(),
        from: None,
    }
}

fn away() -> AdapterError {
    AdapterError::Unavailable("away".to_owned())
}

/// A state, and what is heard by those who wait.
#[derive(Default)]
struct Lab {
    state: State,
    heard: Vec<oneshot::Receiver<Result<Held, usize>>>,
}

impl Lab {
    fn wait(&mut self, wanted: &[(&str, u32)]) {
        let (sender, receiver) = oneshot::channel();
        self.state.waiting.push_back((asked(wanted), sender));
        self.heard.push(receiver);
    }

    /// What is said now: whether it is fresh, the counts by name, and how many ask.
    fn say(
        &mut self,
        answer: impl FnOnce(&Count) -> Result<Counted, AdapterError>,
    ) -> Option<(Count, Vec<Verdict>, bool)> {
        let (mut count, waiting) = self.state.next()?;
        count.counts.sort();
        let answer = answer(&count);
        let (told, goes_on) = self.state.said(waiting, answer, Instant::now());
        Some((count, told.into_iter().map(|(_, verdict)| verdict).collect(), goes_on))
    }

    fn counts(&self) -> Vec<(&str, u32)> {
        let mut counts: Vec<_> = self
            .state
            .counts
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        counts.sort_unstable();
        counts
    }
}

fn yes(verdicts: &[Option<usize>]) -> Result<Counted, AdapterError> {
    Ok(Counted::Yes {
        verdicts: verdicts.to_vec(),
        touched: Vec::new(),
    })
}

const IN: Verdict = Verdict::In { alone: false };
const ALONE_IN: Verdict = Verdict::In { alone: true };

#[test]
fn who_has_its_places_is_counted_and_who_has_not_takes_nothing() {
    let mut lab = Lab::default();
    lab.wait(&[("u/ann", 1), ("t", 2)]);
    lab.wait(&[("u/ann", 1), ("t", 2)]);
    let (said, told, _) = lab.say(|_| yes(&[None, Some(0)])).unwrap();
    assert!(said.is_fresh && said.counts.is_empty() && said.asked.len() == 2);
    assert_eq!(told, [IN, Verdict::Full(0)]);
    assert_eq!(lab.counts(), [("t", 1), ("u/ann", 1)]);
    assert!(lab.say(|_| yes(&[])).is_none(), "there is nothing more to say");

    // It is known for a moment that it is full: nobody asks again, but who takes a place over.
    let mut again = asked(&[("u/ann", 1)]);
    assert_eq!(lab.state.decide(&again, Instant::now()), Some(Verdict::Full(0)));
    assert_eq!(lab.state.decide(&again, Instant::now() + LOOK_EVERY), None);
    again.from = Some("other".into());
    assert_eq!(lab.state.decide(&again, Instant::now()), None);

    // What goes is told, as a number and not as a change; who waits for it is asked about at once.
    lab.state.remove(&names(&["u/ann", "t"]));
    assert_eq!(lab.state.decide(&asked(&[("u/ann", 1)]), Instant::now()), None);
    let (said, ..) = lab.say(|_| yes(&[])).unwrap();
    assert_eq!(
        (said.is_fresh, said.counts),
        (false, vec![("t".into(), 0), ("u/ann".into(), 0)])
    );
    assert!(lab.counts().is_empty());
}

#[test]
fn where_nobody_answers_its_own_counts_decide_and_all_is_said_again() {
    let mut lab = Lab::default();
    lab.wait(&[("t", 1)]);
    lab.say(|_| yes(&[None])).unwrap();
    lab.wait(&[("t", 1)]);
    let (_, told, goes_on) = lab.say(|_| Err(away())).unwrap();
    assert_eq!((told, goes_on), (vec![ALONE_IN], false));
    // For a while nobody is asked at all.
    assert_eq!(lab.state.decide(&asked(&[("t", 1)]), Instant::now()), Some(ALONE_IN));
    assert_eq!(lab.counts(), [("t", 3)]);
    let later = Instant::now() + ALONE;
    assert_eq!(lab.state.decide(&asked(&[("t", 1)]), later), None);
    let (said, ..) = lab.say(|_| yes(&[])).unwrap();
    assert_eq!((said.is_fresh, said.counts), (true, vec![("t".into(), 3)]));
}

#[test]
fn what_was_forgotten_is_said_again_before_anybody_is_let_in() {
    let mut lab = Lab::default();
    lab.wait(&[("t", 9)]);
    lab.say(|_| yes(&[None])).unwrap();
    lab.wait(&[("t", 9)]);
    let (_, told, goes_on) = lab.say(|_| Ok(Counted::Forgotten)).unwrap();
    assert!(told.is_empty() && goes_on);
    let (said, told, _) = lab.say(|_| yes(&[None])).unwrap();
    assert_eq!(
        (said.is_fresh, said.counts, told),
        (true, vec![("t".into(), 1)], vec![IN])
    );
    assert_eq!(lab.counts(), [("t", 2)]);
}

#[test]
fn what_others_have_taken_over_is_said_again() {
    let mut lab = Lab::default();
    lab.wait(&[("t", 9)]);
    let touched = Ok(Counted::Yes {
        verdicts: vec![None],
        touched: names(&["t", "gone"]),
    });
    lab.say(|_| touched).unwrap();
    let (said, ..) = lab.say(|_| yes(&[])).unwrap();
    assert_eq!(said.counts, [("gone".into(), 0), ("t".into(), 1)]);
}

#[test]
fn one_call_is_bounded_and_nobody_is_let_in_before_all_is_said() {
    let mut lab = Lab::default();
    for number in 0..COUNTS_AT_ONCE + 1 {
        lab.state.add(&asked(&[(&number.to_string(), 9)]));
    }
    for _ in 0..ASKED_AT_ONCE + 1 {
        lab.wait(&[("t", 1_000)]);
    }
    let mut rounds = Vec::new();
    while let Some((said, ..)) = lab.say(|count| yes(&vec![None; count.asked.len()])) {
        rounds.push((said.is_fresh, said.counts.len(), said.asked.len()));
    }
    assert_eq!(
        rounds,
        [(true, COUNTS_AT_ONCE, 0), (false, 1, ASKED_AT_ONCE), (false, 0, 1)]
    );
}

#[tokio::test]
async fn places_that_nobody_hears_of_any_more_are_given_back() {
    let places = Places::default();
    let gone = places.take("press", asked(&[("t", 1)]));
    assert!(
        futures_util::FutureExt::now_or_never(gone).is_none(),
        "it waits for an answer"
    );
    for tenant in places.todo().await {
        tenant.say(&Nobody).await;
    }
    assert!(places.tenant("press").lock().counts.is_empty());
    let (held, ()) = tokio::join!(places.take("press", asked(&[("t", 1)])), async {
        for tenant in places.todo().await {
            tenant.say(&Nobody).await;
        }
    });
    assert!(!held.as_ref().unwrap().alone);
    assert_eq!(places.tenant("press").lock().counts.len(), 1);
    drop(held);
    for tenant in places.todo().await {
        tenant.say(&Nobody).await;
    }
    places.due();
    assert!(
        lock(&places.tenants).is_empty(),
        "a tenant that has nothing is forgotten"
    );
}

/// There are no others.
struct Nobody;

impl Census for Nobody {}
