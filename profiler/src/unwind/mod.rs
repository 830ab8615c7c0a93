//! Unwinding without frame pointers: `.eh_frame` to rows, rows to the kernel's tables.
