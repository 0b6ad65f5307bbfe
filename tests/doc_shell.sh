# What goes before each shell block of the documentation: commands that would take minutes are given less to do, and a
# server is looked at once and ended as Ctrl-C ends it. PYTHON, SHORTEN, LOOK and EQUIPOISE are set by the test.
equipoise() {
  case "$1" in
    demo) echo "five minutes of training; what it writes is there already" ;;
    batch) command equipoise "$@" ${BATCH_OPTIONS:+--options "$BATCH_OPTIONS"} ;;
    run) "$PYTHON" "$SHORTEN" "$2" && command equipoise "$@" ;;
    view) "$PYTHON" "$LOOK" "$EQUIPOISE" "$@" ;;
    *) command equipoise "$@" ;;
  esac
}
