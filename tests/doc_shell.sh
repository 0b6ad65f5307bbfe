# What goes before each shell block of the documentation: commands that would take minutes are given less to do, and a
# server is ended as Ctrl-C ends it. PYTHON, SHORTEN and EQUIPOISE are set by the test.
equipoise() {
  case "$1" in
    demo) echo "five minutes of training; what it writes is there already" ;;
    run) "$PYTHON" "$SHORTEN" "$2" && command equipoise "$@" ;;
    view) timeout --preserve-status --signal INT 15 "$EQUIPOISE" "$@" ;;
    *) command equipoise "$@" ;;
  esac
}
