"""What a finished run is asked later (`covey split`, `covey choose-k`), here or over real sites."""
