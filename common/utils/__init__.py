"""What every room needs: errors in one line, whole files, locks, seeds."""
