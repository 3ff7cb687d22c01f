"""What is built is what is installed, and what is installed works: alone, read-only, for root and for anybody."""
