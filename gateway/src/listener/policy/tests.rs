use serde_json::{Value, json};

use super::*;

fn policy(listener: Value) -> Result<Policy, BadListener> {
    let mut whole = json!({"name": "web", "port": 3000});
    whole
        .as_object_mut()
        .unwrap()
        .extend(listener.as_object().unwrap().clone());
    Policy::new(&serde_json::from_value(whole).unwrap(), None, &[], None)
}

fn admit(policy: &Policy, host: &str, origin: Option<&str>) -> Result<(), Refusal> {
    let mut request = Request::builder()
        .uri("/socket.io/?EIO=4&transport=polling")
        .header(HOST, host);
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    policy.admit(&request.body(()).unwrap())
}

#[test]
fn a_request_for_another_host_is_refused() {
    let exact = policy(json!({"hostname": "notify.example.com"})).unwrap();
    for host in ["notify.example.com", "NOTIFY.example.com:3000", "notify.example.com."] {
        assert_eq!(admit(&exact, host, None), Ok(()), "{host}");
    }
    for host in [
        "example.com",
        "a.notify.example.com",
        "notify.example.com.evil",
        "[::1]:3000",
        "",
    ] {
        assert_eq!(admit(&exact, host, None), Err(Refusal::Host), "{host}");
    }
    let below = policy(json!({"hostname": "*.example.com"})).unwrap();
    for host in ["a.example.com", "a.b.example.com:443"] {
        assert_eq!(admit(&below, host, None), Ok(()), "{host}");
    }
    for host in ["example.com", ".example.com", "badexample.com", "a.example.com.evil"] {
        assert_eq!(admit(&below, host, None), Err(Refusal::Host), "{host}");
    }
    let any = policy(json!({})).unwrap();
    assert_eq!(admit(&any, "", None), Ok(()));
}

#[test]
fn who_names_no_origin_is_no_browser_and_passes() {
    for cors in [json!({}), json!({"cors": {"allowedOrigins": ["https://a.example"]}})] {
        assert_eq!(admit(&policy(cors).unwrap(), "h", None), Ok(()));
    }
}

#[test]
fn without_cors_only_pages_of_the_same_host_pass() {
    let same = policy(json!({})).unwrap();
    for (host, origin) in [
        ("h.example", "https://h.example"),
        ("h.example:443", "https://h.example"),
        ("h.example:80", "http://h.example"),
        ("h.example:3000", "http://h.example:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("H.example", "https://h.EXAMPLE"),
    ] {
        assert_eq!(admit(&same, host, Some(origin)), Ok(()), "{origin} at {host}");
    }
    for (host, origin) in [
        ("h.example", "https://evil.example"),
        ("h.example", "https://h.example.evil"),
        ("h.example:3000", "http://h.example:3001"),
        ("h.example:80", "https://h.example"),
        ("h.example", "null"),
        ("h.example", "file://h.example"),
        ("", "https://"),
    ] {
        assert_eq!(
            admit(&same, host, Some(origin)),
            Err(Refusal::Origin),
            "{origin} at {host}"
        );
    }
}

#[test]
fn listed_origins_pass_and_no_others() {
    let listed = policy(json!({"cors": {"allowedOrigins": ["https://a.example", "http://localhost:5173"]}})).unwrap();
    for origin in ["https://a.example", "http://localhost:5173"] {
        assert_eq!(admit(&listed, "h", Some(origin)), Ok(()), "{origin}");
    }
    for origin in [
        "http://a.example",
        "https://a.example.evil",
        "https://b.a.example",
        "null",
        "http://h",
    ] {
        assert_eq!(admit(&listed, "h", Some(origin)), Err(Refusal::Origin), "{origin}");
    }
}

#[test]
fn any_and_reflect_let_every_origin_in() {
    for cors in [
        json!({"allowedOrigins": ["*"]}),
        json!({"reflect": true, "allowCredentials": true}),
    ] {
        let any = policy(json!({"cors": cors})).unwrap();
        for origin in ["https://a.example", "null"] {
            assert_eq!(admit(&any, "h", Some(origin)), Ok(()), "{origin}");
        }
    }
}

#[test]
fn what_browsers_would_refuse_is_refused_here_and_not_a_panic_later() {
    for cors in [
        json!({}),
        json!({"allowedOrigins": ["*"], "allowCredentials": true}),
        json!({"allowedOrigins": ["*", "https://a.example"]}),
        json!({"allowedOrigins": ["https://a.example"], "reflect": true}),
        json!({"allowedOrigins": ["https://a.example\n"]}),
    ] {
        let refused = policy(json!({"cors": cors}));
        assert!(matches!(refused, Err(BadListener::BadField { .. })), "{cors}");
    }
}

#[test]
fn a_listener_with_tls_and_no_certificate_is_never_served_in_the_clear() {
    let refused = policy(json!({"tls": {"secretRef": {"name": "none"}}}));
    assert!(matches!(refused, Err(BadListener::NoCertificate)));
}

#[test]
fn the_gateways_own_page_passes_whatever_the_listener_says_and_nobody_else_does() {
    let page = "http://localhost:9900";
    for cors in [json!(null), json!({"allowedOrigins": ["https://a.example"]})] {
        let listener = json!({"name": "web", "port": 3000, "cors": cors});
        let listener: Listener = serde_json::from_value(listener).unwrap();
        let with = Policy::new(&listener, None, &[page.to_owned()], None).unwrap();
        assert_eq!(admit(&with, "h:3000", Some(page)), Ok(()));
        assert!(with.cors.is_some(), "it reads replies to polls");
        assert_eq!(
            admit(&with, "h:3000", Some("http://localhost:9901")),
            Err(Refusal::Origin)
        );
        let without = Policy::new(&listener, None, &[], None).unwrap();
        assert_eq!(admit(&without, "h:3000", Some(page)), Err(Refusal::Origin));
    }
}
