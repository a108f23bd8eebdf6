"""The commands of `image-features`, one file each: its options, its call, its printing."""
