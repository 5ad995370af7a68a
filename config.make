# Adds the module to the targets "modules" and "install" of nginx's makefile. It is built in nginx's
# build folder; cargo finds out what is to be done anew.

rs_uwsgi_folder=$(cd "$ngx_addon_dir" && pwd)
rs_uwsgi_objs=$(cd "$NGX_OBJS" && pwd)
rs_uwsgi_so=$NGX_OBJS/ngx_http_rs_uwsgi_module.so
# Not absolute yet: auto/install, which makes it so, comes later.
case $NGX_MODULES_PATH in
    /*) rs_uwsgi_modules=$NGX_MODULES_PATH ;;
    *)  rs_uwsgi_modules=$NGX_PREFIX/$NGX_MODULES_PATH ;;
esac

cat >> "$NGX_MAKEFILE" << END

modules:	$rs_uwsgi_so

.PHONY:	rs_uwsgi_always rs_uwsgi_install

$rs_uwsgi_so:	rs_uwsgi_always
	\$(MAKE) -f '$rs_uwsgi_folder/Makefile' -C '$rs_uwsgi_folder' module \\
		NGINX_SOURCE_DIR='$(pwd)' NGINX_BUILD_DIR='$rs_uwsgi_objs' \\
		NGINX_TREE='$rs_uwsgi_objs/addon/rs_uwsgi' \\
		MODULE='$rs_uwsgi_objs/ngx_http_rs_uwsgi_module.so'

install:	rs_uwsgi_install

rs_uwsgi_install:	$rs_uwsgi_so
	mkdir -p '\$(DESTDIR)$rs_uwsgi_modules'
	cp $rs_uwsgi_so '\$(DESTDIR)$rs_uwsgi_modules/ngx_http_rs_uwsgi_module.so.new'
	mv '\$(DESTDIR)$rs_uwsgi_modules/ngx_http_rs_uwsgi_module.so.new' \\
		'\$(DESTDIR)$rs_uwsgi_modules/ngx_http_rs_uwsgi_module.so'

END
