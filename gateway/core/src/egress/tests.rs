//! What may be reached, and what not.

use super::*;

fn egress(grants: &[&str]) -> Egress {
    let grants: Vec<String> = grants.iter().map(|grant| (*grant).to_owned()).collect();
    Egress::parse(&grants).unwrap()
}

fn check(egress: &Egress, url: &str, address: &str) -> Result<(), Denied> {
    let url = Url::parse(url).unwrap();
    egress.check_url(&url)?;
    egress.check_address(&url, address.parse().unwrap())
}

/// Of a granted nothing, a public https URL, at this address.
fn is_reached(address: &str) -> bool {
    check(&Egress::default(), "https://id.example/keys", address).is_ok()
}

#[test]
fn public_addresses_are_reached() {
    for address in [
        "8.8.8.8",
        "93.184.216.34",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "2606:4700::1111",
        "2a00:1450:4001:81b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ] {
        assert!(is_reached(address), "{address}");
    }
}

#[test]
fn what_stands_beside_the_gateway_is_not_reached() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "127.0.0.1",
        "127.1.2.3",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "5f00::1",
    ] {
        assert!(!is_reached(address), "{address}");
    }
}

#[test]
fn an_address_in_the_url_is_checked_in_whatever_form() {
    let nothing = Egress::default();
    for url in [
        "https://127.0.0.1/keys",
        "https://127.1/keys",
        "https://2130706433/keys",
        "https://0x7f.0.0.1/keys",
        "https://0177.0.0.1/keys",
        "https://[::1]/keys",
        "https://[::ffff:7f00:1]/keys",
        "https://169.254.169.254/latest",
        "https://１２７.0.0.1/keys",
    ] {
        let denied = nothing.check_url(&Url::parse(url).unwrap()).unwrap_err();
        assert!(matches!(denied, Denied::Address(_)), "{url}: {denied}");
    }
}

#[test]
fn only_https_without_credentials() {
    let nothing = Egress::default();
    let denied = |url: &str| nothing.check_url(&Url::parse(url).unwrap()).unwrap_err().to_string();
    assert_eq!(
        denied("http://id.example:8080/keys"),
        "http is not granted: use https, or have the platform team grant \"http://id.example:8080\" in egress"
    );
    for url in ["ftp://id.example/keys", "gopher://id.example/"] {
        assert!(denied(url).contains("is not granted"), "{url}");
    }
    assert_eq!(denied("file:///etc/passwd"), "the URL has no host");
    for url in ["https://user@id.example/", "https://:secret@id.example/"] {
        assert_eq!(denied(url), "a URL with a user or password is not requested", "{url}");
    }
    assert_eq!(
        check(&nothing, "https://id.example/keys", "10.0.0.1")
            .unwrap_err()
            .to_string(),
        "10.0.0.1 is no public address: have the platform team grant it in egress"
    );
}

#[test]
fn grants_open_what_they_name_and_nothing_else() {
    for (grant, url, address, open) in [
        ("10.1.0.0/16", "https://idp/k", "10.1.255.1", true),
        ("10.1.0.0/16", "https://idp/k", "::ffff:10.1.0.1", true),
        ("10.1.0.0/16", "https://idp/k", "10.2.0.1", false),
        ("10.1.0.0/16", "http://idp/k", "10.1.0.1", false),
        ("10.1.0.0/16", "https://idp/k", "fd00::1", false),
        ("0.0.0.0/0", "https://idp/k", "169.254.169.254", true),
        ("0.0.0.0/0", "https://idp/k", "::1", false),
        ("10.1.2.3", "https://10.1.2.3:8443/k", "10.1.2.3", true),
        ("10.1.2.3", "https://10.1.2.4/k", "10.1.2.4", false),
        ("fd00::/8", "https://idp/k", "fd12::1", true),
        ("fd00::/8", "https://idp/k", "fc12::1", false),
        ("idp.corp", "https://idp.corp/k", "10.0.0.1", true),
        ("idp.corp", "https://IDP.corp:8443/k", "127.0.0.1", true),
        ("IDP.corp", "https://idp.corp/k", "10.0.0.1", true),
        ("idp.corp", "https://sub.idp.corp/k", "10.0.0.1", false),
        ("idp.corp", "https://idp.corp/k", "169.254.169.254", false),
        ("idp.corp", "https://idp.corp/k", "fe80::1", false),
        ("idp.corp", "https://idp.corp/k", "::ffff:169.254.169.254", false),
        ("idp.corp", "http://idp.corp/k", "10.0.0.1", false),
        ("idp.corp:443", "https://idp.corp/k", "10.0.0.1", true),
        ("idp.corp:443", "https://idp.corp:8443/k", "10.0.0.1", false),
        ("idp.corp:8443", "https://idp.corp:8443/k", "10.0.0.1", true),
        ("idp.corp:8443", "https://idp.corp/k", "10.0.0.1", false),
        ("http://idp.corp:8080", "http://idp.corp:8080/k", "10.0.0.1", true),
        ("http://idp.corp:8080", "http://idp.corp/k", "10.0.0.1", false),
        ("http://idp.corp", "http://idp.corp:99/k", "8.8.8.8", true),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/k", "127.0.0.1", true),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081/k", "127.0.0.1", false),
        ("http://[::1]:8080", "http://[::1]:8080/k", "::1", true),
        ("*", "https://idp:99/k", "10.0.0.1", true),
        ("*", "http://idp/k", "10.0.0.1", false),
        ("*", "https://idp/k", "169.254.169.254", false),
        ("*", "https://169.254.169.254/k", "169.254.169.254", false),
        ("http://*", "http://localhost:99/k", "127.0.0.1", true),
        ("http://*", "http://127.0.0.1:99/k", "127.0.0.1", true),
        ("169.254.169.254", "https://169.254.169.254/k", "169.254.169.254", true),
    ] {
        assert_eq!(
            check(&egress(&[grant]), url, address).is_ok(),
            open,
            "{grant}: {url} at {address}"
        );
    }
}

#[test]
fn what_is_no_grant_is_told() {
    for wrong in [
        "",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "fd00::/129",
        "*.corp",
        "idp.corp/path",
        "idp.corp/",
        "https://idp.corp",
        "user@idp.corp",
        "idp.corp:x",
        "idp corp",
        "http://",
    ] {
        let (index, why) = Egress::parse(&["idp.corp".to_owned(), wrong.to_owned()]).unwrap_err();
        assert_eq!(index, 1);
        assert!(
            why.starts_with(&format!("{wrong:?} is no grant: write a range")),
            "{why}"
        );
    }
    for right in [
        "10.1.0.0/16",
        "fd00::/8",
        "idp.corp",
        "idp.corp:8443",
        "http://idp.corp:8080",
        "http://[::1]:80",
        "*",
        "http://*",
    ] {
        assert_eq!(right.parse::<Grant>().unwrap().to_string(), right);
    }
}
