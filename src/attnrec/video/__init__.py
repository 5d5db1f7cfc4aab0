"""Videos in and out: ffmpeg's frames with their exact times, and moving pictures."""
