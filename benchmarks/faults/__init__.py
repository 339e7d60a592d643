"""What breaks, and whether anything is lost: kills, full disks, damaged files."""
