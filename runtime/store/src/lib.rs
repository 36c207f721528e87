//! The concurrent row store: slots, directory, foreign keys, private replicas of hot rows.
