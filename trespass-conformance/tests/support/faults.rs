//! Faults, and the property that notices each: for fabrics that are broken on purpose.

/// Makes the enum, and the table from it.
macro_rules! faults {
    ($($(#[$doc:meta])+ $fault:ident => $group:ident :: $property:ident, $says:literal;)*) => {
        /// What a broken fabric does wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// Nothing: everything has to pass.
            Nothing,
            $($(#[$doc])+ $fault,)*
        }

        /// Each fault, the property that notices it, and a part of what that says.
        pub(crate) const TABLE: &[(Fault, &str, &str)] =
            &[$((Fault::$fault, concat!(stringify!($group), "::", stringify!($property)), $says)),*];

        /// Makes one test per fault, which calls `catch` at the root of the test binary.
        #[allow(unused_macros, reason = "others use the broken fabrics too")]
        macro_rules! one_test_per_fault {
            () => {$(
                #[test]
                fn $fault() {
                    crate::catch(crate::fault::Fault::$fault);
                }
            )*};
        }
    };
}
