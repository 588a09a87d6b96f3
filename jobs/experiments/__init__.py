"""What experiments are judged by: logged slates joined with what followed, arms compared, other policies estimated."""
