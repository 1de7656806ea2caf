#!/bin/sh
# Lays out the root folder of the image: the binary, the libraries that it is linked with, a user, and places to write.
#
#   image/root.sh BINARY FOLDER      FOLDER must not exist yet
set -eu
umask 022
binary=$1
root=$2

# Without its debug information the binary is a fifth of the size; backtraces still name the functions.
mkdir "$root" "$root/usr" "$root/usr/bin"
objcopy --strip-debug "$binary" "$root/usr/bin/quorate"

# A static binary would need no libraries, but glibc cannot resolve names without them.
libraries=$(ldd "$binary")
case $libraries in *"not found"*) echo "$binary lacks libraries: $libraries" >&2; exit 1 ;; esac
for library in $(echo "$libraries" | grep -o '/[^ ]*'); do
    install -D "$library" "$root$library"
done

mkdir -p "$root/etc"
printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' 'quorate:x:65532:65532:quorate:/var/lib/quorate:/sbin/nologin' > "$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'quorate:x:65532:' > "$root/etc/group"
printf '%s\n' 'hosts: files dns' > "$root/etc/nsswitch.conf"

# Writable for whichever user the platform chooses; on a read-only root, a volume goes there.
install -d -m 1777 "$root/tmp" "$root/var/lib/quorate"
