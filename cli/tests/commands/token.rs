//! `aldis token` as a process.

use crate::aldis::run;

#[tokio::test]
async fn a_token_is_the_only_output_and_the_secret_is_not_shown() {
    let ended = run(&["token", "--claim", "id=1"], &[("ALDIS_SECRET", "hunter2")], "").await;
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout.trim_end().split('.').count(), 3, "{ended:?}");
    assert_eq!(ended.stderr, "");
}

#[tokio::test]
async fn without_a_secret_the_error_says_where_to_give_one() {
    let ended = run(&["token"], &[], "").await;
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: no secret to sign with\n  hint: set ALDIS_SECRET, or give --secret-file or --secret\n"
    );
}
