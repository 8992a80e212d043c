//! Servers that answer well, and servers that mean harm: real ones, on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::*;

/// A server that does `answer` with each connection, once it has read the request.
async fn server<F: Future<Output = ()> + Send>(answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                answer(stream).await;
            });
        }
    });
    address
}

async fn says(text: impl Into<String>) -> SocketAddr {
    let text: Arc<str> = text.into().into();
    server(move |mut stream| {
        let text = Arc::clone(&text);
        async move {
            stream.write_all(text.as_bytes()).await.ok();
        }
    })
    .await
}

fn place() -> Place {
    Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap())
}

fn granted(grants: &[&str]) -> Egress {
    Egress::parse(&grants.iter().map(|grant| (*grant).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// 1,000 bytes of `url`, with http to loopback granted.
async fn get(url: &str) -> Result<Vec<u8>, RequestError> {
    let egress = granted(&["http://127.0.0.1", "http://localhost"]);
    Http::new()
        .unwrap()
        .get(&Url::parse(url).unwrap(), &egress, 1_000, place())
        .await
}

#[tokio::test]
async fn a_granted_server_is_asked_by_address_and_by_name() {
    let server = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(get(&format!("http://{server}/keys")).await.unwrap(), b"{}");
    assert_eq!(
        get(&format!("http://localhost:{}/keys", server.port())).await.unwrap(),
        b"{}"
    );
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_followed() {
    // It would answer.
    let server = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let url = Url::parse(&format!("https://localhost:{}/", server.port())).unwrap();
    let http = Http::new().unwrap();
    let error = http.get(&url, &Egress::default(), 1_000, place()).await.unwrap_err();
    assert_eq!(error.as_str(), "denied");
    assert!(
        error
            .to_string()
            .ends_with("is no public address: have the platform team grant it in egress"),
        "{error}"
    );
    let error = http
        .get(&url, &granted(&["localhost"]), 1_000, place())
        .await
        .unwrap_err();
    assert_eq!(error.as_str(), "unreachable", "{error}: granted, but it speaks no TLS");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let inside = says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} X\r\nLocation: http://{inside}/\r\nContent-Length: 0\r\n\r\n");
        let error = get(&format!("http://{}/", says(head).await)).await.unwrap_err();
        assert_eq!(error.as_str(), "redirect");
        assert_eq!(error.to_string(), format!("it answers with status {status}"));
    }
}

#[tokio::test]
async fn hostile_answers_are_cut_off() {
    let body = |bytes: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{}",
            "x".repeat(bytes)
        )
    };
    assert_eq!(
        get(&format!("http://{}/", says(body(1_000)).await))
            .await
            .unwrap()
            .len(),
        1_000
    );
    let endless = server(async |mut stream: TcpStream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .ok();
        while stream.write_all(b"4\r\nxxxx\r\n").await.is_ok() {}
    });
    for (server, reason) in [
        (says(body(1_001)).await, "too_large"),
        (endless.await, "too_large"),
        (
            says("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx").await,
            "unreachable",
        ),
        (
            says(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2_000_000))).await,
            "unreachable",
        ),
        (says("SSH-2.0-OpenSSH_9\r\n").await, "unreachable"),
        (says("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n").await, "status"),
        (says("").await, "unreachable"),
        (SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), "unreachable"),
    ] {
        let error = get(&format!("http://{server}/?secret=1")).await.unwrap_err();
        assert_eq!(error.as_str(), reason, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let silent = server(async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let dripping = server(async |mut stream: TcpStream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
            .await
            .ok();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    for server in [silent.await, dripping.await] {
        let error = get(&format!("http://{server}/")).await.unwrap_err();
        assert_eq!(error.as_str(), "timeout", "{error}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_told() {
    let error = get("http://localhost./").await.unwrap_err();
    assert_eq!(error.as_str(), "denied", "{error}: another name than the granted one");
    let egress = granted(&["http://*"]);
    let url = Url::parse("http://does-not-exist.invalid/").unwrap();
    let error = Http::new()
        .unwrap()
        .get(&url, &egress, 1_000, place())
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::Lookup(_)), "{error}");
}
