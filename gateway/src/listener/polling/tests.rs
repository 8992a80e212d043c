use std::sync::atomic::AtomicUsize;

use super::*;

async fn reply(text: impl Into<String>) -> Reply {
    Reply::of(Response::new(Full::new(Bytes::from(text.into())))).await
}

/// Asks a session that answers `replies` one after the other; counts how often it was asked.
struct Asked {
    polled: Arc<Polled>,
    times: Arc<AtomicUsize>,
}

impl Asked {
    fn new() -> Self {
        Self {
            polled: Arc::new(Polled::new()),
            times: Arc::default(),
        }
    }

    async fn get(&self, t: Option<&str>, text: &str) -> Reply {
        let (times, text) = (Arc::clone(&self.times), text.to_owned());
        let ask = async move {
            times.fetch_add(1, Ordering::SeqCst);
            reply(text).await
        };
        Arc::clone(&self.polled).poll(t, ask).await
    }

    async fn text(&self, t: Option<&str>, text: &str) -> String {
        self.get(t, text).await.text().unwrap().to_owned()
    }

    fn times(&self) -> usize {
        self.times.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_get_that_comes_again_is_answered_as_before() {
    let asked = Asked::new();
    assert_eq!(asked.text(Some("t1"), "first").await, "first");
    assert_eq!(asked.text(Some("t1"), "second").await, "first");
    assert_eq!(asked.text(Some("t2"), "second").await, "second");
    assert_eq!(
        asked.text(Some("t1"), "third").await,
        "third",
        "only the last one is kept"
    );
    assert_eq!(asked.text(None, "fourth").await, "fourth");
    assert_eq!(
        asked.text(None, "fifth").await,
        "fifth",
        "without t nothing tells them apart"
    );
    assert_eq!(asked.times(), 5);
}

#[tokio::test]
async fn a_get_that_comes_again_while_the_first_waits_gets_the_same_reply() {
    let asked = Asked::new();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let first = tokio::spawn(Arc::clone(&asked.polled).poll(Some("t1"), async {
        answered.await.unwrap();
        reply("first").await
    }));
    tokio::task::yield_now().await;
    let second = asked.text(Some("t1"), "second");
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    answer.send(()).unwrap();
    assert_eq!(first.await.unwrap().text(), Some("first"));
    assert_eq!(second.await, "first");
    assert_eq!(asked.times(), 0);
}

#[tokio::test]
async fn a_get_whose_connection_is_gone_waits_no_longer_and_its_repetition_asks_anew() {
    let asked = Asked::new();
    let first = tokio::spawn(Arc::clone(&asked.polled).poll(Some("t1"), std::future::pending()));
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(asked.text(Some("t1"), "second").await, "second");
}

#[tokio::test]
async fn a_reply_too_long_to_keep_closes_the_session_when_it_is_asked_for_again() {
    let asked = Asked::new();
    let longest = "x".repeat(KEPT_REPLY);
    assert_eq!(asked.text(Some("t1"), &longest).await.len(), KEPT_REPLY);
    assert_eq!(asked.text(Some("t1"), "").await.len(), KEPT_REPLY);
    assert_eq!(asked.text(Some("t2"), &(longest + "x")).await.len(), KEPT_REPLY + 1);
    assert_eq!(asked.get(Some("t2"), "lost").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(asked.get(Some("t3"), "lost").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(asked.times(), 2);
}

#[tokio::test]
async fn a_session_that_is_closed_answers_who_waits() {
    let polled = Arc::new(Polled::new());
    let waits = tokio::spawn(Arc::clone(&polled).poll(Some("t1"), std::future::pending()));
    tokio::task::yield_now().await;
    polled.close();
    assert_eq!(waits.await.unwrap().status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_until_it_is_fetched() {
    let asked = Asked::new();
    let waiting = &asked.polled.waiting;
    assert_eq!(
        waiting.add(2 * WAITING_BYTES),
        Ok(()),
        "one goes through however long it is"
    );
    assert_eq!(waiting.add(1), Err(TooMuch));
    asked.text(Some("t1"), "everything").await;
    assert_eq!(waiting.add(WAITING_BYTES - 1), Ok(()));
    assert_eq!(waiting.add(1), Ok(()));
    assert_eq!(waiting.add(1), Err(TooMuch));
}

#[test]
fn refusals_get_their_codes() {
    let refused = "44/a,{\"message\":\"token_required\\u001fAuthentication token required\"}";
    assert_eq!(
        rewrite(&format!("2\u{1e}{refused}"), &mut Vec::new()),
        "2\u{1e}44/a,{\"message\":\"Authentication token required\",\"data\":{\"code\":\"token_required\"}}"
    );
}

#[test]
fn a_close_goes_out_alone() {
    let rewritten = |reply: &str| rewrite(reply, &mut Vec::new());
    assert_eq!(rewritten("42[\"a\"]\u{1e}42[\"b\"]\u{1e}1"), "42[\"a\"]\u{1e}42[\"b\"]");
    assert_eq!(rewritten("1"), "1");
    assert_eq!(rewritten(""), "");
}

#[tokio::test]
async fn a_session_that_leaves_answers_the_get_that_waits_and_all_others_with_a_close() {
    let asked = Asked::new();
    let waits = Arc::clone(&asked.polled).poll(Some("t1"), std::future::pending());
    let (reply, ()) = tokio::join!(waits, async { asked.polled.leave() });
    assert_eq!(reply.text(), Some("1"));
    assert_eq!(asked.text(Some("t2"), "an event").await, "1");
    assert_eq!(asked.times(), 0, "and nothing beside it, which would come twice");
}
