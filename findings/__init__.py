"""Published findings about stores, one file each: the experiment that shows it, what it shows, and its control."""
