#[test]
fn crds_build() {
    for crd in crate::crd::all() {
        assert!(crd.metadata.name.is_some());
    }
}
