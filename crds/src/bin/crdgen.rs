//! Prints the CustomResourceDefinition of one kind as YAML: `crdgen notificationchannels`. Or docs/reference.md:
//! `crdgen reference`.

fn main() -> std::process::ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let text = match wanted.as_str() {
        "reference" => Some(aldis_crds::crd::reference::markdown()),
        plural => aldis_crds::crd::yaml(plural),
    };
    match text {
        Some(text) => {
            print!("{text}");
            std::process::ExitCode::SUCCESS
        }
        None => {
            eprintln!(
                "crdgen: no kind has the plural name {wanted:?}; there are {}, and reference",
                aldis_crds::crd::plurals().join(", ")
            );
            std::process::ExitCode::FAILURE
        }
    }
}
