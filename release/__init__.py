"""What a release consists of beside the code: pinned dependencies with hashes, and the licences of all of them."""
