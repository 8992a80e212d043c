//! Prints the CustomResourceDefinition of one kind as YAML: `crdgen notificationchannels`.

fn main() -> std::process::ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match aldis_crds::crd::yaml(&wanted) {
        Some(yaml) => {
            print!("{yaml}");
            std::process::ExitCode::SUCCESS
        }
        None => {
            eprintln!(
                "crdgen: no kind has the plural name {wanted:?}; there are {}",
                aldis_crds::crd::plurals().join(", ")
            );
            std::process::ExitCode::FAILURE
        }
    }
}
