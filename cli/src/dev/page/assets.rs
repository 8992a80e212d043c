//! The files of the page, in this program.
//!
//! `socket.io-<version>.esm.min.js` is `dist/socket.io.esm.min.js` of the npm package `socket.io-client` as it was published,
//! under its licence beside it. A newer one: copy it here, and change [`SOCKET_IO`] and the version in `tests/node/package.json`;
//! a test compares the two.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The stock client, and its SHA-256.
#[cfg(test)]
const SOCKET_IO: (&str, &str) = (
    "4.8.4",
    "771c3872e7d9bf81020615fda67ef0fd2aa61fcaf1990100714a46fa2c39f8a1",
);

macro_rules! assets {
    ($($path:literal, $file:literal, $type:literal;)*) => {
        /// Path, content type, content.
        const ASSETS: &[(&str, &str, &[u8])] = &[$(($path, $type, include_bytes!(concat!("assets/", $file)))),*];
    };
}

assets! {
    "/", "index.html", "text/html; charset=utf-8";
    "/page.css", "page.css", "text/css; charset=utf-8";
    "/page.js", "page.js", "text/javascript; charset=utf-8";
    "/link.js", "link.js", "text/javascript; charset=utf-8";
    "/log.js", "log.js", "text/javascript; charset=utf-8";
    "/measure.js", "measure.js", "text/javascript; charset=utf-8";
    "/plot.js", "plot.js", "text/javascript; charset=utf-8";
    "/socket.io.js", "socket.io-4.8.4.esm.min.js", "text/javascript; charset=utf-8";
    "/socket.io.LICENSE", "socket.io-LICENSE", "text/plain; charset=utf-8";
    "/lamp.svg", "lamp.svg", "image/svg+xml";
}

pub(super) fn answer(path: &str) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == path) {
        Some((_, content_type, content)) => ([(header::CONTENT_TYPE, *content_type)], *content).into_response(),
        None => (StatusCode::NOT_FOUND, "there is nothing here\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    fn asset(path: &str) -> &'static [u8] {
        ASSETS.iter().find(|(known, ..)| *known == path).unwrap().2
    }

    #[test]
    fn the_socket_io_client_is_the_one_that_was_published() {
        let (version, hash) = SOCKET_IO;
        let client = asset("/socket.io.js");
        let is: String = digest(&SHA256, client)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(is, hash);
        assert!(
            std::str::from_utf8(client)
                .unwrap()
                .contains(&format!("Socket.IO v{version}\n"))
        );
    }

    /// What a browser loads for the page, in bytes: ours, and the stock client.
    #[test]
    fn the_page_stays_small() {
        let ours: usize = ASSETS
            .iter()
            .filter(|(path, ..)| !path.starts_with("/socket.io"))
            .map(|asset| asset.2.len())
            .sum();
        let client = asset("/socket.io.js").len();
        println!("the page: {ours} bytes, and the stock client: {client}");
        assert!(ours < 48_000, "{ours}");
    }

    #[test]
    fn nothing_else_is_served() {
        assert_eq!(answer("/../page.rs").status(), StatusCode::NOT_FOUND);
        assert_eq!(answer("/").status(), StatusCode::OK);
    }
}
