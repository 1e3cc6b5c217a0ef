"""Asked × seen → Plan."""
