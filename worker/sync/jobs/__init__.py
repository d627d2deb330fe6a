"""Long runs over a library or the notification log: backfill, reconcile, renormalise, replay, and the paging they share."""
