//! Whose a session is: its id ends with the mark of the replica that opened it.
//!
//! ```text
//! 1y2AOm8kBC_xT0pQ          engineioxide's own: 96 random bits, which stay the secret of its client
//! 1y2AOm8kBC_xT0pQ-Zk3hF_9a    as its client has it: `-` and the mark, which tells where, and lets nobody in
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;

/// Characters of an Engine.IO session id of engineioxide.
const ID: usize = 16;
/// Characters of a mark: 48 bits, so that no two of a thousand replicas share one.
const MARK: usize = 8;

/// The mark of a replica. It is made anew with each process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark(String);

impl Mark {
    /// One that no other replica has.
    pub fn random() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; MARK * 3 / 4]>()))
    }

    /// As ids carry it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of an open packet, `0{"sid":"<id>",…}`, with its id marked.
    pub fn opened(&self, packet: &str, id: &str) -> String {
        packet.replacen(id, &format!("{id}-{}", self.0), 1)
    }
}

/// The id and the mark of a session id as a client has it; `None` where it has no mark.
fn split(sid: &str) -> Option<(&str, Mark)> {
    let (id, mark) = sid.split_at_checked(ID)?;
    let mark = mark.strip_prefix('-').filter(|mark| mark.len() == MARK)?;
    let is_base64url = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    (is_base64url(id) && is_base64url(mark)).then(|| (id, Mark(mark.to_owned())))
}

/// The mark in a request's session id, and its URI with the id as engineioxide knows it. `None`: its id has no mark.
pub fn of_request(uri: &Uri) -> Option<(Mark, Uri)> {
    let query = uri.query()?;
    let sid = query.split('&').find_map(|pair| pair.strip_prefix("sid="))?;
    let (id, mark) = split(sid)?;
    let query = query.replacen(&format!("sid={sid}"), &format!("sid={id}"), 1);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse().ok()?);
    Some((mark, Uri::from_parts(parts).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_given_leads_back_to_its_replica_and_to_the_id() {
        let mark = Mark::random();
        assert_eq!(mark.as_str().len(), MARK);
        let open = mark.opened(r#"0{"sid":"aaaaaaaaaaaaaaaa","upgrades":[]}"#, "aaaaaaaaaaaaaaaa");
        let sid = open.split('"').nth(3).unwrap();
        for (asked, plain) in [
            (
                format!("/socket.io/?EIO=4&sid={sid}&t=x"),
                "/socket.io/?EIO=4&sid=aaaaaaaaaaaaaaaa&t=x",
            ),
            (
                format!("http://h:3000/socket.io/?sid={sid}"),
                "http://h:3000/socket.io/?sid=aaaaaaaaaaaaaaaa",
            ),
        ] {
            let (whose, uri) = of_request(&asked.parse().unwrap()).unwrap();
            assert_eq!((whose, uri.to_string().as_str()), (mark.clone(), plain));
        }
    }

    #[test]
    fn an_id_without_a_mark_has_none_and_nothing_else_is_taken_for_one() {
        for sid in [
            "aaaaaaaaaaaaaaaa",
            "",
            "aaaaaaaaaaaaaaaa-",
            "aaaaaaaaaaaaaaaa-bbbbbbb",
            "aaaaaaaaaaaaaaaa-bbbbbbbbb",
            "aaaaaaaaaaaaaaaabbbbbbbbb",
            "aaaaaaaaaaaaaaaa-bbbbbbb%",
            "aaaaaaaaaaaaaaa/-bbbbbbbb",
            "ééééééééé-bbbbbbbb",
        ] {
            assert_eq!(split(sid), None, "{sid}");
        }
        assert_eq!(of_request(&"/socket.io/?EIO=4".parse().unwrap()), None);
        assert_eq!(of_request(&"/socket.io/".parse().unwrap()), None);
    }
}
